"""`seedconv report`: the figures and tables of a study, for a paper; matplotlib only once run."""
