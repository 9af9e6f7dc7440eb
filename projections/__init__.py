"""What the events mean: pure folds. `mesh` is what the rules read, `wanted` what ought to be,
`lobby` what people see."""
