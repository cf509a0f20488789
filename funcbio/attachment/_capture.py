"""CUDA graphs: a replay runs what the GPU was told, and nothing of what Python does in a step."""

from funcbio.tensors._kept import is_captured


def require_no_capture() -> None:
    """Raises RuntimeError while a CUDA graph is captured.

    Replays would count no step, and repeat which mechanisms acted in the captured one, whatever their periods.
    """
    if is_captured():
        raise RuntimeError(
            "a step with mechanisms should be made outside of a CUDA graph, whose replays count no steps and know no "
            "periods; found a stream that is being captured: attach with hooks=False, and call before_step() and "
            "after_step() around each replay of the optimizer's step"
        )
