"""Which parameters of a model are synapses, and how they lie."""
