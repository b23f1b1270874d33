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
# takes all that a later question may need. What is missing, and what it would cost on the machine of the existing
# records, is printed by
#
# ```bash
# python -m deformlib status
# ```
