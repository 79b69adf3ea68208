"""Pre-norm transformer blocks, plain or with rotary attention in the polar angle."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (first half, second half) of the last axis by angles given as cosine and sine."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Attention(nn.Module):
    """Multi-head self-attention that sees relative polar angles alone.

    With `angles`, queries, keys and values are turned by integer multiples of the disk's polar angle and the
    result is turned back at the query, so turning the whole pattern changes nothing.
    """

    harmonics: Tensor

    def __init__(self, width: int, heads: int, harmonics: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.register_buffer(
            "harmonics", (torch.arange(width // heads // 2) % harmonics).float(), persistent=False
        )

    def forward(self, x: Tensor, mask: Tensor | None, angles: Tensor | None) -> Tensor:
        """Attend; x (B, L, width), mask (B, L) True for disks or None, angles (B, L) radians or None."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if angles is not None:
            turned = angles[:, None, :, None] * self.harmonics
            cos, sin = turned.cos().to(q.dtype), turned.sin().to(q.dtype)
            q, k, v = rotate(q, cos, sin), rotate(k, cos, sin), rotate(v, cos, sin)
        keep = None if mask is None else mask[:, None, None, :]
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=keep)
        if angles is not None:
            x = rotate(x, cos, -sin)
        out: Tensor = self.out(x.transpose(1, 2).reshape(batch, length, width))
        return out


class Block(nn.Module):
    """Attention and a feed-forward network of twice the width, each behind a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None, angles: Tensor | None) -> Tensor:
        """Apply the block; shapes as in `Attention.forward`."""
        x = x + self.attention(self.norm1(x), mask, angles)
        out: Tensor = x + self.feed_forward(self.norm2(x))
        return out


def initialise(module: nn.Module) -> None:
    """Xavier initialisation of every weight matrix, as in the paper's code."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
