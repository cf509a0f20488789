"""Whether two things compute the same: what can be seen of them is compared, and what cannot is named."""
