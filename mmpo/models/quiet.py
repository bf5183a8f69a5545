"""Silence where diffusers says what is as it should be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """A context in which diffusers logs errors only."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


@contextmanager
def quiet_tokenizers() -> Iterator[None]:
    """A context in which neither transformers nor diffusers repeats each long prompt; they are counted instead."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with quiet_diffusers():
            yield
    finally:
        logging.set_verbosity(level)
