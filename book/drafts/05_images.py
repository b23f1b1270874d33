# %% [markdown]
# To be a section of chapter 5, once both arms of cifar10-random-images are made:
# `images = collect("cifar10-random-images", mode)`, and panels_by_layer, rows_of_panels.

# %% [markdown]
# ## Random images
#
# Random labels change the question and keep the images. The paper also names the other change, *random images*, and
# shows nothing of it. Here are two kinds, with the same random labels: *Gaussian* images, drawn from the normal
# distribution that has the mean and the full covariance of the photographs, so that neighbouring pixels are as alike as
# there but nothing has an edge or an object in it; and *white* ones, whose pixels have the photographs' means and
# variances and are independent. If smooth filters came from smooth images, they should vanish with white ones.

# %% tags=["hide-input"]
gaussian, white = images.only(task="gaussian-images"), images.only(task="white-images")
kinds = {"photographs": random, "Gaussian images": gaussian, "white images": white}
pd.concat({kind: of_kind.accuracies() for kind, of_kind in kinds.items()})

# %% [markdown]
# {numref}`fig-5-images` shows sensitivity for photographs that none of the networks has seen, and for images of the
# kind that each was trained on, deformed alike. What to look for: which of the curves fall.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of three panels of curves over the layers."}, "figure": {"name": "fig-5-images", "caption": "Sensitivity after training on random labels of photographs, of Gaussian images and of white ones: for natural test images (above), and for training images, each network's own kind (below). Records: {glue:text}`fig-5-images-note`, of each kind."}}
arms = images.seeds
def of_arms(values):
    return values[values["arm"].isin(arms)]

rows = {
    "natural images": {kind: of_arms(of_kind.layers()) for kind, of_kind in kinds.items()},
    "their own kind": {kind: of_arms(of_kind.layers(condition="train-0")) for kind, of_kind in kinds.items()},
}
rows_of_panels(rows)

# %% tags=["hide-input"]
pd.concat({(on, kind): by_layer(values) for on, of_kind in rows.items() for kind, values in of_kind.items()}, axis=1)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels of curves over eight filter banks."}, "figure": {"name": "fig-5-images-banks", "caption": "Normalized total variation of the filter banks of the same networks; dotted, at initialization. Records: {glue:text}`fig-5-images-note`, of each kind."}}
banks_of_kind = {kind: of_arms(of_kind.banks()) for kind, of_kind in kinds.items()}
panels_by_layer(banks_of_kind, "normalized total variation", {kind: of_arms(of_kind.banks(checkpoint=0)) for kind, of_kind in kinds.items()}, shared=True)

# %% tags=["hide-input"]
pd.concat({kind: by_layer(values) for kind, values in banks_of_kind.items()}, axis=1)
