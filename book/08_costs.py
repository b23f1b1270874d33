# %% [markdown]
# # What it cost
#
# Every record says how long it took, on what, and how much memory its process held at its peak. This chapter adds them
# up by study, so that someone who wants to repeat one knows what to expect. {doc}`02_methods` says what each recipe
# and protocol consists of.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
from deformlib.evidence import costs, speed

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
# the same, or with another library that does the same. A ratio is the median over alternating repetitions, beside its quartiles.
# The goals were set before anything was measured.

# %% tags=["hide-input"]
conditions, ratios = speed()
print(conditions)
ratios

# %% [markdown]
# Six goals are missed on this machine. It has two cores without bfloat16, and training gains least there: the goal of
# twice the plain loop's speed was set for processors that compute in bfloat16, which training uses where it can; that
# was not measured. Small images pay for what is done once for each: the spline of a 32x32 image is the larger part of
# warping it, and the distances of all pairs of 128 images cost the same however little the layer took to compute; with
# images of 224x224 both nearly vanish. kornia and SciPy are as fast as the machine's second core lets them be; in an
# earlier run with one thread the spline was 79 and 21 times as fast as they are.
