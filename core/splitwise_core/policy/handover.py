"""When a prompt's KV is pushed: each layer while the next one is computed, or all of it at the end.

To push by layer hides the link behind the prompt, and costs the prompt a little for each layer. The
Splitwise paper (Patel et al., ISCA 2024, section 4.3) does it from 512 tokens on, measured on its
H100s; here the point comes from what this link and this worker were measured to take.
"""

from math import ceil, inf


def layerwise_min_tokens(
    layers: int, token_bytes: int, link_bytes_per_s: float, layer_cost_s: float
) -> float:
    """Tokens from which on a push by layer ends sooner; `inf` when it never does.

    `token_bytes` are those of all layers, `layer_cost_s` is what the prompt waits for each layer
    that it tells of. Of S bytes pushed at the end all are waited for; pushed by layer, the last
    layer's alone, S / layers, and the costs: it is the sooner when
    S (1 - 1 / layers) / link > layers * cost.
    """
    if layers < 2:
        return inf
    hidden_bytes = token_bytes * (1 - 1 / layers)
    return max(1, ceil(layers * layer_cost_s * link_bytes_per_s / hidden_bytes))
