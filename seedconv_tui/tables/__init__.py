"""Results in long form: export, report and screens take them from here."""
