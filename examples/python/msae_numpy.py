"""Files of msae.h from Python, with numpy alone: models, sparse codes, embeddings.

    python3 msae_numpy.py MODEL.safetensors CODES.safetensors X.npy

prints what they hold and how well the codes' reconstructions fit the embeddings X that were encoded.
The names are those of the library: d inputs, n latents, encoder [d, n], decoder [n, d].
"""
import json
import struct
import sys

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U32": "<u4"}


def read_safetensors(path):
    """Tensors by name, as views of the file, and the metadata."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        dtype = np.dtype(DTYPES[entry["dtype"]])
        tensors[name] = np.memmap(path, np.uint8, "r")[8 + length + start:8 + length + end] \
            .view(dtype).reshape(entry["shape"])
    return tensors, metadata


class Model:
    """A model that msae train wrote; msae convert makes one of other projects' files."""

    def __init__(self, path):
        tensors, metadata = read_safetensors(path)
        self.metadata = {key[5:]: value for key, value in metadata.items()  # the library's own
                         if key.startswith("msae.")} or metadata            # before version 0.6: bare
        self.encoder = tensors["encoder"]                               # [d, n]
        self.decoder = tensors.get("decoder", self.encoder.T)           # [n, d]; tied: not in the file
        self.pre_bias, self.latent_bias = tensors["pre_bias"], tensors["latent_bias"]
        self.mean, self.scale = tensors["mean"], float(tensors["scale"].reshape(()))
        self.theta = np.exp(tensors["log_threshold"]) if "log_threshold" in tensors else 0  # jumprelu
        if self.metadata["activation"] != "relu" or any(
                float(self.metadata[option]) != 0 for option in ("normalize", "soft_cap")):
            raise ValueError(f"{path}: another activation, normalize and soft caps are the library's")

    def encode(self, x, k):
        """The k largest latents of each row of raw embeddings x [rows, d], dense [rows, n]."""
        inputs = (x.astype(np.float32) - self.mean) * np.float32(self.scale)
        z = np.maximum((inputs - self.pre_bias) @ self.encoder + self.latent_bias, 0)
        z *= z > self.theta
        if k < z.shape[1]:
            rest = np.argpartition(-z, k, axis=1)[:, k:]
            np.put_along_axis(z, rest, 0, axis=1)
        return z

    def decode(self, z):
        """Raw reconstructions [rows, d] of dense codes."""
        return (z @ self.decoder + self.pre_bias) / np.float32(self.scale) + self.mean


class Codes:
    """What msae encode wrote: row r has latents[indptr[r]:indptr[r + 1]], strongest first."""

    def __init__(self, path):
        tensors, metadata = read_safetensors(path)
        self.indptr, self.latents, self.values = (
            tensors["indptr"], tensors["indices"], tensors["values"])
        self.n_latents = int(metadata["n_latents"])
        self.rows = len(self.indptr) - 1

    def row(self, r):
        part = slice(self.indptr[r], self.indptr[r + 1])
        return self.latents[part], self.values[part]

    def dense(self, first, rows):
        """Rows first .. first + rows - 1 as [rows, n]. (scipy.sparse.csr_matrix takes
        (values, latents, indptr) as they are.)"""
        z = np.zeros((rows, self.n_latents), np.float32)
        for r in range(rows):
            latents, values = self.row(first + r)
            z[r, latents] = values
        return z


def write_embeddings(path, x):
    """Embeddings [rows, d] as msae train takes them: any .npy of float16, float32 or float64 in C
    order."""
    np.save(path, np.ascontiguousarray(x, np.float32))


def main(model_path, codes_path, data_path):
    model, codes = Model(model_path), Codes(codes_path)
    x = np.load(data_path, mmap_mode="r")
    d, n = model.encoder.shape
    print(f"model: {model.metadata['recipe']}, {d} inputs, {n} latents, scale {model.scale:.6g}")
    print(f"codes: {codes.rows} rows, {len(codes.values) / codes.rows:.1f} latents a row")
    cosines, own, rows = 0.0, 0.0, min(codes.rows, 1000)
    for first in range(0, rows, 100):
        part = np.asarray(x[first:first + 100], np.float32)[:rows - first]
        z = codes.dense(first, len(part))
        r = model.decode(z)
        cosines += np.sum(np.sum(part * r, 1) /
                          (np.linalg.norm(part, axis=1) * np.linalg.norm(r, axis=1)))
        own = max(own, float(np.max(np.abs(model.encode(part, int((z != 0).sum(1).max())) - z))))
    print(f"cosine of embeddings and reconstructions: {cosines / rows:.6f}")
    print(f"codes against numpy's own: at most {own:.2e} apart")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
