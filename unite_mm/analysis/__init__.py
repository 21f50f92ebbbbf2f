"""What trained models look like inside; knows no modality, only the contract.

`similarity` compares representations, `alignment` the two uses of the trunk and latents over time, `description_length`
weighs the weights, `probes` asks what latents know, `trajectories` follows samples, `dynamics` reads a run's history;
`subject` is what they look at, `analyse` does all of it, `figures` and `tables` show it.
"""

from unite_mm.analysis.alignment import block_alignment, latents_over_time
from unite_mm.analysis.analyse import AnalysisPlan, analyse, analyse_run
from unite_mm.analysis.description_length import description_length, histogram_entropy
from unite_mm.analysis.dynamics import curves, gradient_points
from unite_mm.analysis.probes import control, linear_probes, probe
from unite_mm.analysis.similarity import cknna, linear_cka, mean_cosine
from unite_mm.analysis.subject import Subject
from unite_mm.analysis.trajectories import save_film, trajectories

__all__ = [
    "AnalysisPlan",
    "Subject",
    "analyse",
    "analyse_run",
    "block_alignment",
    "cknna",
    "control",
    "curves",
    "description_length",
    "gradient_points",
    "histogram_entropy",
    "latents_over_time",
    "linear_cka",
    "linear_probes",
    "mean_cosine",
    "probe",
    "save_film",
    "trajectories",
]
