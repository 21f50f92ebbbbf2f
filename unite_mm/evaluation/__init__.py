"""Evaluation of a trained model or of a file of samples; knows no modality, only the contract.

A model is judged twice: by reconstructing samples of a held-out split and by generating new ones. What was generated is
written before anything is scored, so that a failing metric costs no samples.

`plan` says what to evaluate, `model` judges a model (`reconstruction` and `generation` its two uses, `sweep` the
guidance scales), `files` a file of samples, `report` holds what all of them report with; `verification` checks data.
"""
