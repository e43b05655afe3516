"""Colours and shapes of classes, the same in every figure of a report."""

# Ten colours that people with any of the common kinds of colour blindness can tell apart, by
# M. Petroff, "Accessible Color Sequences for Data Visualization", arXiv:2107.02270.
COLORS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
SHAPES = ("circle", "square", "triangle", "diamond")
NUM_LOOKS = len(COLORS) * len(SHAPES)
UNKNOWN = ("#bbbbbb", "circle")

# Of two things that are compared, of frames around images: the same class, another one.
SAME, OTHER = "#3f90da", "#e76300"


def look(label):
    """(colour, shape) of a class by its number; -1 is an image without a class.

    The first ten differ in colour, the next ten have the same colours and another shape, and
    from `NUM_LOOKS` on it begins again.
    """
    if label < 0:
        return UNKNOWN
    shape, color = divmod(label % NUM_LOOKS, len(COLORS))
    return COLORS[color], SHAPES[shape]
