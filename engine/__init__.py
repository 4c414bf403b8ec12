"""The headless engine: scores checkpoints as they arrive and reduces them to divergences.

It writes to the store and shows nothing; whoever starts it passes callbacks for what happens.
"""
