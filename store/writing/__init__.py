"""Writers of the coordinator and of its workers, and recovery after a crash."""
