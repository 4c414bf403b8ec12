"""What a study is, in memory: names of arrays, variables, snapshots, checksums. No I/O."""
