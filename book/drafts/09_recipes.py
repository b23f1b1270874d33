# %% [markdown]
# To be the last section of chapter 9, once runs of cifar10-recipes are made: `recipes = collect("cifar10-recipes", mode)`.

# %% [markdown]
# ## Trained otherwise
#
# Here each row is networks trained anew with one thing changed, on the fixed fifth of CIFAR-10 that the control of
# {ref}`the supervised task <supervised-task>` uses, with true labels. The first row is the book's own recipe. *Factor* is
# what the change does to the sensitivity of trained networks, the geometric mean of layers 1 to 4 and of arms, and at the
# last layer; *smoothness* what it adds to their normalized total variation, mean over filter banks. Claims are judged
# as above, as if these were the networks of the other chapters: 8, filters get smoother; 16, their smoothness converges
# across arms; 17, arms are equally accurate.

# %% tags=["hide-input"]
of_recipes(recipes).round(3)

# %% [markdown]
# RESULT-RECIPES
