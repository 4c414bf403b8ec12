"""The commit log and what it says, who may write, heartbeat and progress."""
