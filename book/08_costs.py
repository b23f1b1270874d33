# %% [markdown]
# # What it cost
#
# Every record says how long it took, on what, and how much memory its process held at its peak. This chapter adds them
# up by study, so that someone who wants to repeat one knows what to expect. {doc}`02_methods` says what each recipe
# and protocol consists of.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
from deformlib.evidence import costs

table = costs(mode)
table.drop(columns=["processor", "precision", "threads"])

# %% [markdown]
# A run is one process. Hours are those of a single process with as many threads as the next table says; where
# several ran side by side on one machine, the hours by the clock were fewer. Runs were timed while the machine
# also did other things, so a quiet one is faster. A processor that computes in bfloat16 is about twice as fast.

# %% tags=["hide-input"]
table[["processor", "threads", "precision"]]

# %% [markdown]
# *Training* and *measuring* are apart because the measurement is not cheap beside it: {ref}`the protocol <protocol>`
# takes all that a later question may need. *A checkpoint* is what it took at one, light and full ones together, and what was
# prepared and repeated for them. What is missing, and what it would cost on the machine of the existing
# records, is printed by
#
# ```bash
# python -m deformlib status
# ```
#
# ## Speed
#
# `make bench` measures what is claimed to be fast, each thing side by side in one process with the least that could do
# the same. On two cores of an AMD EPYC without bfloat16 (AVX2), otherwise idle, PyTorch 2.14 with two threads, it
# printed, as medians of alternating repetitions:
#
# | work | against | ratio |
# |---|---|---|
# | training, images a second (414) | a plain PyTorch loop (308) | 1.35 times as fast |
# | training, operations a second | a float32 matrix product of 2048x2048 | 0.73 of its rate |
# | `ThinPlateSpline.warp`, 32 images of 224x224 | `grid_sample` with the grid ready | 1.35 times its time |
# | the same, 512 images of 32x32 | the same | 1.34 times its time |
# | `sensitivity`, 13 layers, 128 images of 32x32 | two forward passes | 1.56 times their time |
# | `sensitivity`, 19 layers, 16 images of 224x224 | two forward passes | 1.20 times their time |
# | its memory | one forward pass over both | 1.50 and 1.02 times |
#
# The goal for training was 1.9 times the plain loop, with bfloat16. Where the processor has it, training uses it; that was
# not measured here. The
# small images pay for the statistics of each layer, which cost the same whatever the layer took to compute.
