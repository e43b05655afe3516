"""What matplotlib is used by: a figure, its file, and the same as a data URI for a page."""

import base64
import io
import os

from csml_tf import places, whole_files
from csml_tf.errors import InputError

# What to do where a file of a report cannot be written.
ADVICE = "choose another --output"
_DOTS_PER_INCH = 130
_INK = "#333333"
_FAINT = "#d9d9d9"
_STYLE = {
    "axes.edgecolor": _FAINT,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.color": "#eeeeee",
    "legend.frameon": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def prepare(directory):
    """Makes the folder of a report, before the work that it would waste to fail after.

    Args:
        directory: of the report; made when missing.

    Raises:
        InputError: if the folder cannot be written to, or matplotlib is not installed.
    """
    _import_matplotlib()
    if places.is_url(directory):
        places.at(directory).mkdir(exist_ok=True)
        return
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise _not_writable(directory, error) from error
    if not os.access(directory, os.W_OK):
        raise _not_writable(directory, None)


def figure(width, height):
    """An empty `matplotlib.figure.Figure` of a size in inches, without any state of pyplot.

    Raises:
        InputError: if matplotlib is not installed.
    """
    _import_matplotlib()
    from matplotlib.figure import Figure

    return Figure([width, height], layout="constrained")


def style():
    """A context in which axes get the look of all curves."""
    _import_matplotlib()
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def lay_out(drawn):
    """Lets a figure of curves choose its ticks, so that saving it makes room for their numbers."""
    _take_words_as_they_are(drawn)
    drawn.draw_without_rendering()


def save(drawn, path):
    """Writes a figure as PNG.

    Args:
        drawn: `matplotlib.figure.Figure`.
        path: of the file; its folder exists.

    Raises:
        InputError: if the file cannot be written.
    """
    _take_words_as_they_are(drawn)
    with whole_files.new_file(path, ADVICE) as temporary:
        drawn.savefig(temporary, format="png", dpi=_DOTS_PER_INCH)


def svg_uri(drawn):
    """A figure as a data URI of SVG, letters as outlines: no font is asked for."""
    import matplotlib

    _take_words_as_they_are(drawn)
    buffer = io.StringIO()
    # The salt and the missing date: the same figure gives the same text.
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "csml_tf"}):
        drawn.savefig(buffer, format="svg", metadata={"Date": None})
    return data_uri(buffer.getvalue().encode(), "image/svg+xml")


def _take_words_as_they_are(drawn):
    """A class, a folder or a run may be named "5$ and 10$", which would be read as a formula."""
    from matplotlib.text import Text

    for text in drawn.findobj(Text):
        text.set_parse_math(False)
        # In a font that lacks a letter a box stands for it; half a letter stands for nothing.
        text.set_text(text.get_text().encode(errors="replace").decode())


def data_uri(content, media_type):
    """Bytes as text that stands where an address would: `data:image/png;base64,...`."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _import_matplotlib():
    try:
        from matplotlib import figure  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"Figures need matplotlib, which is not here ({error}): pip install 'csml_tf[reports]'."
        ) from error


def _not_writable(path, error):
    reason = "no permission" if error is None else error.strerror
    return InputError(f"{path} cannot be written ({reason}): {ADVICE}.")
