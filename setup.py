"""Installs csml_tf. `make test` makes the whole environment; this file chooses its versions.

There are two stacks, and the Python version chooses between them (README.md says more):

* Python 3.9 to 3.11: TensorFlow 2.15 with Keras 2.15, the home stack.
* Python 3.12 and later, where TensorFlow 2.15 has no wheels: TensorFlow 2.16 to 2.21 with
  tf-keras, which is the same Keras 2. Each tf-keras asks for the TensorFlow of its own minor
  version, so pip cannot mix two.

constraints.txt has the same versions for later installs into the environment.
"""

import pathlib
import re

import setuptools

HOME = 'python_version < "3.12"'
LATER = 'python_version >= "3.12"'
# The platforms that tensorflow-addons 0.23 has wheels for; csml_tf works without it.
ADDONS = f'{HOME} and (sys_platform == "darwin" or platform_machine == "x86_64")'
LINUX = 'sys_platform == "linux"'


ROOT = pathlib.Path(__file__).parent


def read_version():
    """The version in csml_tf/__init__.py, read as text: the build has no other package of ours."""
    init = (ROOT / "csml_tf" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', init, re.M).group(1)


RECIPES = "csml_tf.gin_configs"
# Its 1.18 asks for an ml-dtypes that TensorFlow 2.15 does not take.
ONNX = ["tf2onnx>=1.16", f"onnx<1.18; {HOME}", "onnxruntime"]
REPORTS = ["matplotlib>=3.5"]
PILLOW = "pillow>=9.0"
DEMO = ["scikit-image>=0.19"]  # Its pictures are the images of `make demo`.
DOCS = ["mkdocs-material>=9.5.40", "mkdocstrings[python]>=0.26"]  # The site, `make docs`.
FAISS = ["faiss-cpu>=1.8"]
# 26 cannot be imported beside NumPy 1, and does not ask for NumPy 2.
PARQUET = [f"pyarrow>=14,<26; {HOME}", f"pyarrow>=14; {LATER}"]

setuptools.setup(
    name="csml_tf",
    version=read_version(),
    description="Self-supervised pretraining of image encoders: CsMl on MoCo, SimCLR, BYOL",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    # The recipes are on top in a checkout, and inside of the package where it is installed.
    packages=[*setuptools.find_packages(include=["csml_tf*"]), RECIPES],
    package_dir={RECIPES: "gin_configs"},
    package_data={
        "csml_tf": ["py.typed"],
        RECIPES: ["*.gin", "*/*.gin"],
        "csml_tf.reports": ["*.css", "*.html", "*.js", "reference_runs.json"],
        "csml_tf.zoo": ["results.json", "encoders/*"],
    },
    entry_points={"console_scripts": ["csml-tf = csml_tf.cli:main"]},
    python_requires=">=3.9",
    install_requires=[
        f"tensorflow>=2.15,<2.16; {HOME}",
        f"tensorflow>=2.16,<2.22; {LATER}",
        # TensorFlow 2.15 too takes its Keras from tf-keras when TF_USE_LEGACY_KERAS is set.
        f"tf-keras>=2.15,<2.16; {HOME}",
        f"tf-keras>=2.16,<2.22; {LATER}",
        f"tensorboard>=2.16,<3; {LATER}",  # TensorFlow 2.21 does not bring it.
        f"tensorflow-addons>=0.23,<0.24; {ADDONS}",
        "tensorflow-datasets>=4.9.3,<4.10",
        "importlib_resources>=5.0",  # TFDS 4.9.10 downloads with it and does not ask for it.
        f"tensorflow-metadata<1.17; {HOME}",  # Later ones want a protobuf that breaks TFDS.
        f"numpy<2; {HOME}",
        f"numpy; {LATER}",
        "protobuf",  # In the versions that TensorFlow asks for.
        # TensorBoard and TF Hub import pkg_resources, gone in later ones.
        "setuptools>=77.0.3,<81",
        "gin-config>=0.5",
        "absl-py>=1.0",
        "h5py>=2.9",
        "scikit-learn>=1.0",  # Its digits are the quickstart's images.
        "scipy>=1.7",
        "tqdm>=4.60",
    ],
    extras_require={
        "cuda": [
            # 2.15.0 asks for a TensorRT that pip cannot find; 2.15.1 dropped it.
            f"tensorflow[and-cuda]>=2.15.1,<2.16; {HOME} and {LINUX}",
            f"tensorflow[and-cuda]>=2.16,<2.22; {LATER} and {LINUX}",
        ],
        "images": [PILLOW, "pillow-heif>=0.15"],  # WebP, TIFF and AVIF; HEIC.
        "demo": DEMO,
        "docs": DOCS,
        "faiss": FAISS,  # Neighbors among millions of images only.
        "onnx": ONNX,  # tools/export.py --format=onnx only.
        "parquet": PARQUET,
        "reports": REPORTS,
        # s3:// and az:// URLs; there is none for TensorFlow 2.17 and later.
        "stores": [f"tensorflow-io==0.36.*; {HOME}"],
        "torch": ["torch>=2.5"],  # Reads and writes PyTorch's files; tools/convert.py only.
        "dev": [
            *FAISS,
            *PARQUET,
            *REPORTS,
            *DEMO,
            *DOCS,
            PILLOW,
            "ipykernel>=6.20",  # It and nbclient run the notebooks.
            "mypy>=1.10",
            "nbclient>=0.8",
            "psutil>=5.9",
            "pytest>=8.1",
            "pytest-xdist>=3.6",  # The first that runs tests in the main thread, which has signals.
            "ruff==0.17.6",  # Exact, so that `make lint` means the same everywhere.
            "tensorflow-hub>=0.16",
        ],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
