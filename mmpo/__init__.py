"""mmpo: preference alignment of image generators and vision-language models. Importing it loads no torch."""

__version__ = "0.1.0"
