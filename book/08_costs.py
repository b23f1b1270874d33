# %% [markdown]
# # What it cost
#
# Every record says how long it took, on what, and how much memory its process held at its peak. This chapter adds them
# up by study, so that someone who wants to repeat one knows what to expect. {doc}`02_methods` says what each recipe
# and protocol consists of.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue

from reproduction.analysis.costs import across_hardware, costs, speed

pd.set_option("display.max_colwidth", None)
table = costs(mode)
table.drop(columns=["processor", "precision", "threads", "what for"])

# %% [markdown]
# A run is one process, or one of several that a process makes one after the other. Hours are those of a single process
# with as many threads as the next table says; where several ran side by side, the hours by the clock were fewer: two on
# the CPU, up to fifteen on the GPU, which they shared. Runs on the CPU were timed while it also did other things, so a
# quiet one is faster. Memory is the highest of a study's records, *memory* that of the process and *GPU memory* that of
# its tensors on the GPU. The goals were 6 GB at 224x224 and 3 GB for trainings. The first is met but for one network of
# Figure 3a, which was measured on three sets of photographs in turn and took 6.2: the layers of 256 images take up to
# 3.3 GB at once, and a process 5.5 to 6.0. (Nineteen records that had taken 6.0 to 6.6 were made again, seventeen after
# the allocator had been told not to keep what a large layer leaves, and two after images close to each other were also
# no longer copied to be compared again. Their measurements are the same to the last digit.) The second is met by all
# but one network of `imagenet-128`, which came third in a process that kept memory from the two before; the other, in a
# process of its own, took 1.9 GB.

# %% tags=["hide-input"]
made = table[table["processor"] != ""]
made.groupby(["processor", "threads", "precision"]).size().to_frame("studies")

# %% [markdown]
# What each study is for:

# %% tags=["hide-input"]
table.groupby("study", sort=False)[["what for"]].first()

# %% [markdown]
# *Training* and *measuring* are apart because the measurement is not cheap beside it: {ref}`the protocol <protocol>`
# takes all that a later question may need. *A checkpoint* is what it took at one, light and full ones together, and what was
# prepared and repeated for them. What is missing, and what it would cost on the machine of the existing
# records, is printed by
#
# ```bash
# python -m reproduction status
# ```
#
# ## Two kinds of hardware
#
# Networks trained on the GPU were trained in TensorFloat-32: the factors of each product rounded to 11 significant
# bits, sums in float32. All measuring was in float32 there, too. No network was trained on both, so what can be
# compared is the scatter. How far apart are trained networks that differ in their seed, if one was trained on the CPU
# and one on the GPU, and if both were trained on the CPU? The means are over pairs of seeds, variants and layers, of the
# variants that have both kinds of pairs.

# %% tags=["hide-input"]
across_hardware(mode).round(3)

# %% [markdown]
# In full mode smoothness scatters alike. Sensitivity does so in the control; on all images a network of the GPU is
# farther from those of the CPU than these from each other, by 1.6 times, most of all in Strided; under random labels it
# is 1.5 times as far, all of it in Average-pool and Max-pool. Of these two, three networks of the GPU and one of the
# CPU had not learned all of their labels after twenty epochs, and these differ from the rest; the variants without pooling,
# which know theirs by heart, scatter alike. So in random labels it is what was learned that differs, and whether the
# machine has a part in that cannot be told from so few.
#
# ## Speed
#
# `make bench` measures what is claimed to be fast, each thing side by side in one process with the least that could do
# the same, or with another library that does the same. A ratio is the median over alternating repetitions, beside its quartiles.
# The goals were set before anything was measured. *Power of* is the exponent with which time grows: 1 is proportional.
# The *rate of a product* is that of a plain matrix product, with which the arithmetic of training is compared.

# %% tags=["hide-input"]
conditions, ratios = speed()
glue("bench-conditions", conditions, display=False)
ratios

# %% [markdown]
# Measured on: {glue:text}`bench-conditions`. Six goals are missed on this machine. (Its load of 1.5 is that of a build
# which had ended seconds before. In earlier runs kornia came to 57, a warp of 224x224 pixels took 1.30 and 1.39 times
# as long as `grid_sample`, and training was 1.54 times as fast as a plain loop and at 0.67 of the product.) The goals
# of training were set for a processor that computes in bfloat16, and this one does not. A warp takes 1.6 times as long
# as `grid_sample` alone at 32x32 and 1.4 times at 224x224; `sensitivity` takes 1.5 times as long as two forward passes
# for 13 layers at 32x32, and 1.2 times for 19 layers at 224x224, a further pass over two images included that tells on
# which axis a representation has its images. The ratios to kornia and SciPy depend on the number of threads: in an
# earlier run with one thread they were 79 and 21.
#
# And on a GPU, but for SciPy, which has none, and for how time grows, which a GPU that is not filled does not show
# (`python bench --cuda`):

# %% tags=["hide-input"]
conditions, ratios = speed("cuda")
glue("bench-cuda-conditions", conditions, display=False)
ratios

# %% [markdown]
# Measured on: {glue:text}`bench-cuda-conditions`. The goals were set before a GPU was at hand, and of those of speed
# only that against a plain loop is met, whose images a CPU augments one by one. A warp, which is one product and one
# `grid_sample`, takes 7 to 14 times as long as `grid_sample` alone, and 13 layers at 32x32 are measured in 14 times the
# time of two forward passes. So little work does not fill this GPU: most of the time goes into starting many small
# operations, and into waiting for the answers to checks (are all values finite?). With layers of 224x224, which do fill
# it, `sensitivity` takes 1.7 times as long as two forward passes. It took 5.6 times as long when distances were taken
# in blocks that suit a CPU's cache. Training reaches a hundredth of the rate of a large product (each step waited for
# its end, which trainings do not), because at this width and image size an operation ends before the next is started:
# alone on the GPU a process trained the CIFAR-10 network of {numref}`fig-3d` at 11,000 to 12,000 images a second in
# batches of 64 (the table's are of 128), in float32, TensorFloat-32 and bfloat16 alike, and fourteen side by side, in
# float32, came to 24,000. On the CPU of the first table it is about 160 in each of two processes.
