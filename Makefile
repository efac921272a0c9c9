# `make demo` shows the package at work, `make test` proves it; both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format clean-cache

demo: .venv/ready
	@mkdir -p out
	$(BIN)/python -m examples.lantern out/lantern.glb
	$(BIN)/voxlume encode out/lantern.glb out/lantern.vxz --resolution 256
	$(BIN)/voxlume decode out/lantern.vxz out/lantern_decoded.glb
	$(BIN)/voxlume compare out/lantern.glb out/lantern.vxz --picture out/lantern.png
	@echo
	@echo "The picture: out/lantern.png (above the source, below what came back from out/lantern.vxz)."
	@echo "Next: $(BIN)/voxlume encode YOUR.glb out/yours.vxz && $(BIN)/voxlume render out/yours.vxz out/yours.png"

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
	touch $@
