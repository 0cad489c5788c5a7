"""Functions of the tour."""


def mean(values: list[float]) -> dict:
    """The mean of some numbers."""
    print(f"averaging {len(values)} numbers")
    return {"mean": sum(values) / len(values)}
