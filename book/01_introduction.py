# %% [markdown]
# # Introduction
#
# A deformation moves every point of an image a little, and differently from place to place. A network is stable
# to it when its representation of the image hardly moves {cite:p}`ruderman2018`. With $r$ a representation,
# $\tau$ a deformation and $d$ the cosine distance, the sensitivity is
#
# $$
# \frac{\langle d(r(x), r(\tau(x))) \rangle_x}{\operatorname{median}_{x \ne y} d(r(x), r(y))}.
# $$ (sensitivity)

# %% tags=["parameters"]
mode = "full"
seed = 0

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue

# %% [markdown]
# {numref}`fig-1` shows a field of displacements; {eq}`sensitivity` says what is measured.

# %% mystnb={"figure": {"name": "fig-1", "caption": "A field of displacements at 3x3 control points, {glue:text}`fig-1-max`&nbsp;px at most: $\\|\\nabla\\tau\\|_\\infty < C$."}}
displacements = np.random.default_rng(seed).uniform(-2, 2, (3, 3, 2))
glue("fig-1-max", 2, display=False)
figure, axes = plt.subplots(figsize=(4, 4))
axes.quiver(*np.mgrid[:3, :3][::-1], *displacements.transpose(2, 0, 1))
plt.close(figure)
figure

# %%
size = abs(displacements)
pd.DataFrame({"largest": [size.max()], "mean": [size.mean()]}).round(3)
