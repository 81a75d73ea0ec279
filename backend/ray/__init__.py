"""prelabel on several cards or machines, with Ray as the distributed engine (the optional extra `ray`)."""
