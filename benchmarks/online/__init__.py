"""Learners on streams, judged by the loss of each batch before it is learnt from."""
