"""Tests never use the network: the hub's client refuses at once instead of trying for a minute."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
