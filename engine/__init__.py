"""The headless engine: scores checkpoints as they arrive and reduces them to divergences.

It writes to the store and shows nothing; its caller passes callbacks for what happens.
"""
