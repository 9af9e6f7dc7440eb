"""Side-by-side measurements against real peers. Only ratios within one run mean anything."""
