"""From arrays to terminal cells, with numpy only."""
