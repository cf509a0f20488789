"""The parameters of a model that are synapses, and the layout of each."""
