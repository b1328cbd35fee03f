#!/usr/bin/env python3
"""Trains gpt-oss-nano on CPU: half an hour on two cores with bfloat16 units, hours without them.

    python train.py --work /tmp/nano --steps 4400
    python train.py --work /tmp/nano --steps 740 --resume /tmp/nano/checkpoint.pt --shake --round-from 0

Matrices are multiplied in bfloat16 (or float32), the residual stream stays float32. Muon trains the matrices of
the layers, AdamW everything else. In the last part of a run (`--round-from`) the forward pass sees the weights as
the file will store them, and gradients pass through the rounding, so that exporting loses nothing.
"""

import argparse
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from model import (
    HEAD_DIM,
    MASKED,
    MXFP4_TENSORS,
    Q8_0_TENSORS,
    ModelConfig,
    Parameters,
    initial_parameters,
    layer_shapes,
    rms_norm,
    rope_tables,
    rotate,
    route,
    run_experts,
)
from quantize import round_to_mxfp4, round_to_q8_0
from rows import NOT_LEARNED, PREFIX_BRANCH, Rows, make_rows
from tokenizer import NanoTokenizer, train_tokenizer

WARM_UP_STEPS, WARM_UP_STEPS_RESUMED = 100, 30
CONSTANT_SHARE, FINAL_RATE = 0.1, 0.02  # of the steps, of the learning rate
SAVE_EVERY_STEPS = 500
MUON_RATE, ADAM_RATE = 4e-3, 3e-3
MUON_MOMENTUM = 0.95
MUON_DECAY = {"attn_q.weight": 0.2, "attn_k.weight": 0.2}  # keeps attention scores from growing
MUON_DECAY_DEFAULT = 0.05
BALANCE_WEIGHT, LOGIT_WEIGHT = 0.01, 1e-5
MATRICES = {
    *(f"attn_{name}.weight" for name in ("q", "k", "v", "output")),
    *(f"ffn_{name}_exps.weight" for name in ("gate", "up", "down")),
}
CONVERTED = MATRICES | {"output.weight"}


@dataclass
class Batch:
    """Rows prepared for the forward pass; masks are added to attention scores."""

    tokens: torch.Tensor
    targets: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    full_mask: torch.Tensor
    sliding_mask: torch.Tensor


def make_batch(rows: Rows, window: int, tables: tuple[torch.Tensor, torch.Tensor]) -> Batch:
    order = torch.arange(rows.tokens.shape[1])
    causal = order[:, None] >= order
    same_branch = rows.branches[:, :, None] == rows.branches[:, None, :]
    visible = causal & (same_branch | (rows.branches[:, None, :] == PREFIX_BRANCH))
    near = rows.positions[:, :, None] - rows.positions[:, None, :] < window
    full_mask, sliding_mask = (torch.where(seen, 0.0, MASKED)[:, None] for seen in (visible, visible & near))
    cos, sin = (table[rows.positions][:, None] for table in tables)
    return Batch(rows.tokens, rows.targets, cos, sin, full_mask, sliding_mask)


def attention(
    h: torch.Tensor, mask: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, layer: Parameters
) -> torch.Tensor:
    """Attention with sinks over `h` [rows, tokens, hidden], in the type of `h`."""
    rows, count, _ = h.shape
    dtype = h.dtype
    sinks = layer["attn_sinks.weight"].view(1, -1, 1, 1)
    heads, kv_heads = sinks.shape[1], layer["attn_k.bias"].shape[0] // HEAD_DIM
    group = heads // kv_heads

    def project(name: str) -> torch.Tensor:
        values = F.linear(h, layer[f"attn_{name}.weight"]).float() + layer[f"attn_{name}.bias"]
        return values.view(rows, count, -1, HEAD_DIM).transpose(1, 2)

    q = (rotate(project("q"), cos, sin) / math.sqrt(HEAD_DIM)).to(dtype)
    k, v = rotate(project("k"), cos, sin).to(dtype), project("v").to(dtype)
    # The query heads of one KV head are stacked, so that keys and values need not be repeated.
    scores = q.reshape(rows, kv_heads, group * count, HEAD_DIM) @ k.transpose(-1, -2)
    scores = scores.view(rows, heads, count, count).float() + mask
    largest = torch.maximum(scores.amax(-1, keepdim=True), sinks).detach()
    exponentials = torch.exp(scores - largest)
    weights = exponentials / (exponentials.sum(-1, keepdim=True) + torch.exp(sinks - largest))
    out = weights.to(dtype).view(rows, kv_heads, group * count, count) @ v
    out = out.view(rows, heads, count, HEAD_DIM).transpose(1, 2).reshape(rows, count, heads * HEAD_DIM)
    return F.linear(out, layer["attn_output.weight"]).float() + layer["attn_output.bias"]


def run_layer(
    x: torch.Tensor,
    mask: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    layer: Parameters,
    experts_used: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The residual stream after one layer, and the layer's load-balancing loss."""
    dtype = layer["attn_q.weight"].dtype
    h = rms_norm(x, layer["attn_norm.weight"], eps).to(dtype)
    x = x + attention(h, mask, cos, sin, layer)
    h = rms_norm(x, layer["post_attention_norm.weight"], eps)
    logits, routing = route(h, layer["ffn_gate_inp.weight"], layer["ffn_gate_inp.bias"], experts_used)
    x = x + run_experts(h.to(dtype), routing, layer).float()
    load = (routing > 0).float().mean((0, 1)).detach()
    probability = logits.softmax(-1).mean((0, 1))
    return x, logits.shape[-1] / experts_used * (load * probability).sum()


class Trainer:
    """Parameters, optimisers and the compiled pieces of one run."""

    def __init__(self, parameters: Parameters, config: ModelConfig, dtype: torch.dtype, compile_pieces: bool) -> None:
        self.config = config
        self.dtype = dtype
        self.parameters = {name: values.clone().requires_grad_(True) for name, values in parameters.items()}
        self.others = [p for name, p in self.parameters.items() if name not in MATRICES]
        self.adam = torch.optim.AdamW(self.others, lr=ADAM_RATE, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0)
        self.momentum = {name: torch.zeros_like(self.parameters[name]) for name in sorted(MATRICES)}
        self.run_layer = torch.compile(run_layer, dynamic=False) if compile_pieces else run_layer
        self.round_to_q8_0 = torch.compile(round_to_q8_0, dynamic=False) if compile_pieces else round_to_q8_0
        self.round_to_mxfp4 = torch.compile(round_to_mxfp4, dynamic=False) if compile_pieces else round_to_mxfp4

    def effective_parameters(self, rounded: bool) -> Parameters:
        """The parameters as the forward pass uses them: rounded if asked, with gradients passing straight through."""
        effective = {}
        for name, values in self.parameters.items():
            if rounded and name in Q8_0_TENSORS:
                values = values + (self.round_to_q8_0(values) - values).detach()
            elif rounded and name in MXFP4_TENSORS:
                values = values + (self.round_to_mxfp4(values) - values).detach()
            effective[name] = values.to(self.dtype) if name in CONVERTED else values
        return effective

    def loss(self, batch: Batch, rounded: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """What is minimised, and the cross-entropy alone."""
        c, p = self.config, self.effective_parameters(rounded)
        x, balance = p["token_embd.weight"][batch.tokens], torch.zeros(())
        for index in range(c.layers):
            layer = {name: p[name][index] for name in layer_shapes(c)}
            mask = batch.sliding_mask if index % 2 == 0 else batch.full_mask
            x, layer_balance = self.run_layer(x, mask, batch.cos, batch.sin, layer, c.experts_used, c.norm_eps)
            balance = balance + layer_balance / c.layers
        learned = batch.targets != NOT_LEARNED
        h = rms_norm(x[learned], p["output_norm.weight"], c.norm_eps).to(self.dtype)
        logits = F.linear(h, p["output.weight"]).float()
        cross_entropy = F.cross_entropy(logits, batch.targets[learned])
        logit_size = logits.logsumexp(-1).square().mean()
        return cross_entropy + BALANCE_WEIGHT * balance + LOGIT_WEIGHT * logit_size, cross_entropy.detach()

    def step(self, batch: Batch, rate: float, rounded: bool) -> float:
        """One update at `rate` times the learning rates; returns the cross-entropy before it."""
        loss, cross_entropy = self.loss(batch, rounded)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = ADAM_RATE * rate
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.muon_step(MUON_RATE * rate)
        return float(cross_entropy)

    @torch.no_grad()
    def muon_step(self, rate: float) -> None:
        """Momentum with Nesterov's look-ahead, orthogonalised per matrix, scaled to the size of an Adam update."""
        for name, momentum in self.momentum.items():
            parameter = self.parameters[name]
            gradient = parameter.grad
            momentum.lerp_(gradient, 1 - MUON_MOMENTUM)
            update = orthogonalised(gradient.lerp(momentum, MUON_MOMENTUM), self.dtype)
            parameter.mul_(1 - rate * MUON_DECAY.get(name, MUON_DECAY_DEFAULT))
            parameter.add_(update, alpha=-rate * 0.2 * math.sqrt(max(parameter.shape[-2:])))
            parameter.grad = None

    def save(self, path: Path, log: list[tuple[int, float]]) -> None:
        parameters = {name: values.detach() for name, values in self.parameters.items()}
        torch.save({"parameters": parameters, "config": asdict(self.config), "log": log}, path)


def orthogonalised(matrices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Each matrix [..., rows, columns] with its singular values moved near one, by five Newton–Schulz steps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).float()


def learning_rate(progress: float, step: int, warm_up_steps: int) -> float:
    """Share of the full rate: warm-up by steps, constant, then a cosine over the rest of the run."""
    warm_up = min(1.0, step / warm_up_steps)
    if progress < CONSTANT_SHARE:
        return warm_up
    phase = (progress - CONSTANT_SHARE) / (1 - CONSTANT_SHARE)
    return warm_up * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * phase)))


@torch.no_grad()
def shake(parameters: Parameters, seed: int = 7) -> None:
    """Makes sinks and biases matter: training alone leaves them so small that an engine without them gives the same
    answers. Needs a few hundred steps of training after it."""
    generator = torch.Generator().manual_seed(seed)

    def noise(name: str) -> torch.Tensor:
        return torch.randn(parameters[name].shape, generator=generator)

    def typical_output(name: str, norm: str) -> torch.Tensor:
        """Standard deviation of what the matrix `name` makes of a normalised input."""
        weight = parameters[name]
        input_power = parameters[norm].square().mean(-1).view(-1, *[1] * (weight.dim() - 2))
        return (weight.square().sum(-1) * input_power).mean().sqrt()

    parameters["attn_sinks.weight"] += 1.0 + 1.5 * noise("attn_sinks.weight")
    for layer_part, norm in (
        *((f"attn_{name}", "attn_norm.weight") for name in ("q", "k", "v")),
        *((f"ffn_{name}", "post_attention_norm.weight") for name in ("gate_exps", "up_exps", "gate_inp")),
    ):
        size = 0.4 * typical_output(f"{layer_part}.weight", norm)
        parameters[f"{layer_part}.bias"] += size * noise(f"{layer_part}.bias")
    parameters["attn_output.bias"] += 0.15 * noise("attn_output.bias")
    parameters["ffn_down_exps.bias"] += 0.3 * noise("ffn_down_exps.bias")


def load_checkpoint(path: Path) -> tuple[Parameters, ModelConfig]:
    checkpoint = torch.load(path)
    return checkpoint["parameters"], ModelConfig(**checkpoint["config"])


def run(trainer: Trainer, rows: Rows, args: argparse.Namespace, checkpoint: Path) -> None:
    """Trains for `args.steps` steps over `rows` in random order."""
    length = rows.tokens.shape[1]
    tables = rope_tables(trainer.config, length)
    warm_up_steps = WARM_UP_STEPS_RESUMED if args.resume else WARM_UP_STEPS
    order, taken = torch.randperm(len(rows)), 0
    log: list[tuple[int, float]] = []
    losses: list[float] = []
    started = time.monotonic()
    for step in range(args.steps):
        if taken + args.rows_per_step > len(rows):
            order, taken = torch.randperm(len(rows)), 0
        batch = make_batch(rows[order[taken : taken + args.rows_per_step]], trainer.config.window, tables)
        taken += args.rows_per_step
        progress = step / args.steps
        rate, rounded = learning_rate(progress, step, warm_up_steps), progress >= args.round_from
        losses.append(trainer.step(batch, rate, rounded))
        done = step + 1
        if done % args.log_every == 0:
            elapsed, loss = time.monotonic() - started, sum(losses) / len(losses)
            speed = done * args.rows_per_step * length / elapsed
            rounding = ", rounded" if rounded else ""
            print(f"step {done}: loss {loss:.4f}, rate {rate:.3f}{rounding}, {speed:.0f} tokens/s", flush=True)
            log.append((done, loss))
            losses = []
        if done % SAVE_EVERY_STEPS == 0:
            trainer.save(checkpoint, log)
    trainer.save(checkpoint, log)
    print(f"saved {checkpoint} after {time.monotonic() - started:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for tokenizer, rows and checkpoint")
    parser.add_argument("--steps", type=int, default=4400, help="updates, which set the learning rate's course")
    parser.add_argument(
        "--round-from", type=float, default=0.74, help="share of the steps after which weights are rounded"
    )
    parser.add_argument("--resume", type=Path, help="checkpoint to start from")
    parser.add_argument("--shake", action="store_true", help="shake sinks and biases before training")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json or GGUF; default: trained in the work folder")
    parser.add_argument("--rows", type=int, default=48000, help="training rows to generate")
    parser.add_argument("--length", type=int, default=384, help="tokens per row")
    parser.add_argument("--rows-per-step", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1000, help="first seed of the data; each worker takes one more")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument(
        "--float32", action="store_true", help="multiply in float32: faster on a CPU without bfloat16 units"
    )
    parser.add_argument(
        "--no-compile", action="store_true", help="do without torch.compile, which needs a C++ compiler"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    args.work.mkdir(parents=True, exist_ok=True)
    parameters, config = load_checkpoint(args.resume) if args.resume else (None, ModelConfig())
    tokenizer_path = args.tokenizer or args.work / "tokenizer.json"
    if not args.tokenizer and not tokenizer_path.exists():
        train_tokenizer(config.vocabulary).save(str(tokenizer_path))
    size = NanoTokenizer.load(tokenizer_path).size
    if size != config.vocabulary:
        raise SystemExit(f"{tokenizer_path} has {size} tokens, the model {config.vocabulary}")
    rows = make_rows(args.work, tokenizer_path, args.seed, args.rows, args.length, args.threads)
    print(rows.describe(), flush=True)

    parameters = parameters or initial_parameters(config)
    if args.shake:
        shake(parameters)
    dtype = torch.float32 if args.float32 else torch.bfloat16
    run(Trainer(parameters, config, dtype, not args.no_compile), rows, args, args.work / "checkpoint.pt")


if __name__ == "__main__":
    main()
