"""The head of a README.md, in YAML, from which sites for models make their pages."""

import json

# The library that opens the folder, and what else does, for the site's search.
_LIBRARIES = {"preset": ("timm", ("keras-hub", "torchvision")), "hub": ("tf-keras", ("tf-hub",))}
FORMATS = frozenset(_LIBRARIES)
# What Hugging Face knows by these names; others have to be called "other".
_LICENCES = {
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "unlicense", "cc0-1.0", "cc-by-4.0"),
    *("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
    *("gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "openrail"),
}


def front_matter(format_, licence, name, data, metrics):
    """The lines of the YAML, those that enclose it included.

    Args:
        format_: one of `FORMATS`.
        licence: of the weights; None where it is not stated.
        name: of the model.
        data: name of the training images, on whose held-out part it was measured.
        metrics: a card's, list of {"name", "value", "protocol"}.

    Example:
        >>> knn = {"name": "kNN top-1", "value": 0.5714, "protocol": "k=200"}
        >>> for line in front_matter("hub", "MIT", "small", "cifar10", [knn]):
        ...     print(line)
        ---
        license: mit
        library_name: tf-keras
        pipeline_tag: image-feature-extraction
        tags:
        - image-feature-extraction
        - self-supervised-learning
        - csml_tf
        - tf-hub
        model-index:
        - name: "small"
          results:
          - task:
              type: image-classification
            dataset:
              name: "cifar10"
              type: "cifar10"
            metrics:
            - type: accuracy
              value: 0.5714
              name: "kNN top-1 (k=200)"
        ---
    """
    library, others = _LIBRARIES[format_]
    tags = ["image-feature-extraction", "self-supervised-learning", "csml_tf", *others]
    return [
        "---",
        *_describe_licence(licence),
        f"library_name: {library}",
        "pipeline_tag: image-feature-extraction",
        "tags:",
        *(f"- {tag}" for tag in tags),
        *_describe_results(name, data, metrics),
        "---",
    ]


def _describe_results(name, data, metrics):
    """The figures as Hugging Face's search reads them; no line where there are none."""
    if not metrics:
        return []
    name, data = _quote(name), _quote(data)
    lines = ["model-index:", f"- name: {name}", "  results:"]
    lines += ["  - task:", "      type: image-classification"]
    lines += ["    dataset:", f"      name: {data}", f"      type: {data}", "    metrics:"]
    for metric in metrics:
        title = _quote(f"{metric['name']} ({metric['protocol']})")
        lines += ["    - type: accuracy", f"      value: {metric['value']:.4g}"]
        lines.append(f"      name: {title}")
    return lines


def _describe_licence(licence):
    if licence is None:
        return ["license: unknown"]
    if licence.lower() in _LICENCES:
        return [f"license: {licence.lower()}"]
    return ["license: other", f"license_name: {_quote(licence)}"]


def _quote(text):
    """A text as YAML takes it, whatever it holds."""
    return json.dumps(text, ensure_ascii=False)
