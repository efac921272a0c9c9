# `make demo` shows the package at work, `make test` proves it; both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
# Another picture of examples/, or one of yours there.
EXAMPLE ?= lamp

.PHONY: demo test check format clean-cache

demo: .venv/ready
	@mkdir -p out
	$(BIN)/voxlume generate examples/$(EXAMPLE).png out/$(EXAMPLE).glb --picture out/$(EXAMPLE).png
	@echo
	@echo "Look at out/$(EXAMPLE).png, open out/$(EXAMPLE).glb; next: $(BIN)/voxlume generate YOUR_PICTURE.png out/yours.glb"

test: .venv/ready check
	$(BIN)/python -m pytest -n auto --dist loadfile

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# numba does not see changes in kernels that another file calls.
clean-cache:
	find voxlume -name '*.nbc' -o -name '*.nbi' | xargs rm -f

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	# PyTorch by itself first, so that its pinned build is taken as it is.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# Compiled kernels are kept beside the sources; without this the first result would wait for them.
	$(BIN)/voxlume warm-up
	touch $@
