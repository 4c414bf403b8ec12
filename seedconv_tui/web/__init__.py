"""The monitor in a browser: a process of it for each page that is open."""
