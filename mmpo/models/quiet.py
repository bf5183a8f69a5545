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
    with quiet_transformers(), quiet_diffusers():
        yield


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """A context in which transformers logs errors only, and shows no bars; diffusers is not imported for it."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
