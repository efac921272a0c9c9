"""Speed and quality as commands with kept results."""

from voxlume.threads import sleep_while_waiting

sleep_while_waiting()  # as the commands that users run; before PyTorch is imported
