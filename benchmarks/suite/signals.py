"""Signals computed from formulas: keywords, heartbeats, motion and vibration.

Every function takes the class of each signal and returns float32, first dimension the
signal. Classes overlap where noise is strong, so no model is right about all of them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]
Generator = np.random.Generator

_AUDIO, _AUDIO_HZ = 1024, 4096
# Each word is two sounds: what the pitch does in the first and in the second.
_UP, _DOWN, _FLAT, _WARBLE = range(4)
_WORDS = (
    (_UP, _UP), (_UP, _DOWN), (_DOWN, _UP), (_FLAT, _WARBLE),
    (_WARBLE, _FLAT), (_FLAT, _DOWN), (_DOWN, _WARBLE),
)  # fmt: skip

_BEATS, _BEATS_HZ = 256, 128
_SPECTRUM, _WINDOW = 128, 512
_STEPS, _STEPS_HZ = 64, 20


def _each(rng: Generator, low: float, high: float, label: Labels) -> Array:
    """Return one number between ``low`` and ``high`` a signal, as a column."""
    return rng.uniform(low, high, (len(label), 1))


def keyword(rng: Generator, label: Labels) -> Array:
    """Return audio ``(n, 1, 1024)``; the last class is noise alone."""
    time = np.arange(_AUDIO) / _AUDIO_HZ
    start, half = _each(rng, 0.0, 0.07, label), _each(rng, 0.06, 0.09, label)
    pitch = _each(rng, 250, 900, label)
    words = np.asarray((*_WORDS, (_FLAT, _FLAT)))[label]
    rate = np.zeros((len(label), _AUDIO))
    for place in range(2):
        share = ((time - start) / half - place).clip(0, 1)
        moves = np.stack([
            share, -share * 0.5, 0 * share, 0.18 * np.sin(share * 2 * np.pi * 4),
        ])  # fmt: skip
        rate += moves[words[:, place], np.arange(len(label))]
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.6 * rate), axis=1) / _AUDIO_HZ
    heard = (time > start) & (time < start + 2 * half) & (label != len(_WORDS))[:, None]
    sound = np.sin(phase + _each(rng, 0, 6.3, label)) * heard
    sound *= 10 ** _each(rng, -0.8, 0.2, label)
    noise = rng.normal(0, 0.35, rate.shape)
    audio: Array = (sound + noise)[:, None].astype(np.float32)
    return audio


def heartbeat(rng: Generator, label: Labels) -> Array:
    """Return one lead in millivolts ``(n, 1, 256)``.

    Classes: normal, early beat, no P wave and uneven, wide QRS, raised ST.
    """
    early, uneven, wide, raised = (np.equal(label, k)[:, None] for k in range(1, 5))
    time = np.arange(_BEATS) / _BEATS_HZ
    period = _each(rng, 0.6, 0.95, label)
    lead = np.zeros((len(label), _BEATS))
    at = _each(rng, -0.3, 0.2, label)
    odd = rng.integers(1, 3, at.shape)
    height = _each(rng, 0.7, 1.3, label)
    for beat in range(5):
        sooner = early & (odd == beat)
        shift = np.where(uneven, rng.normal(0, 0.11, at.shape), rng.normal(0, 0.015, at.shape))
        at = at + period * np.where(sooner, _each(rng, 0.62, 0.8, label), 1) + shift
        spread = np.where(wide, _each(rng, 1.5, 2.4, label), _each(rng, 0.85, 1.35, label))
        p_wave = np.where(uneven | sooner, 0, _each(rng, 0.08, 0.2, label))
        for offset, high, width in (
            (-0.16, p_wave, 0.025),
            (-0.03 * spread, -0.12 * height, 0.010 * spread),
            (0, height, 0.012 * spread),
            (0.03 * spread, -0.2 * height, 0.012 * spread),
            (0.12, np.where(raised, _each(rng, 0.08, 0.24, label), 0), 0.05),
            (0.25, _each(rng, 0.15, 0.35, label), 0.045),
        ):
            lead += high * np.exp(-0.5 * ((time - at - offset) / width) ** 2)
    drift = np.sin(2 * np.pi * (_each(rng, 0.1, 0.5, label) * time + _each(rng, 0, 1, label)))
    lead += drift * _each(rng, 0, 0.25, label)
    lead += rng.normal(0, 1, lead.shape) * _each(rng, 0.01, 0.07, label)
    return lead[:, None].astype(np.float32)


def motion(rng: Generator, label: Labels) -> Array:
    """Return accelerations in g and turning rates in rad/s, ``(n, 64, 6)``.

    Classes: still, walk, run, climb, sit down, stand up.
    """
    time = np.arange(_STEPS) / _STEPS_HZ
    stride = np.asarray([0, 1.8, 2.6, 1.6, 0, 0])[label][:, None]
    stride = stride * _each(rng, 0.8, 1.25, label)
    force = np.asarray([0, 0.3, 0.6, 0.27, 0, 0])[label][:, None]
    force = force * _each(rng, 0.55, 1.5, label)
    phase = 2 * np.pi * (stride * time + _each(rng, 0, 1, label))
    lean = np.asarray([0, 0, 0.05, 0.22, 0, 0])[label][:, None]
    lean = lean + rng.normal(0, 0.1, lean.shape)

    # Sitting down and standing up are the same path, walked in the other sense.
    when, pace = _each(rng, 0.8, 2.4, label), _each(rng, 0.25, 0.6, label)
    push = np.exp(-0.5 * ((time - when) / pace) ** 2)
    swing = -(time - when) / pace * push
    sense = np.asarray([0, 0, 0, 0, -1, 1])[label][:, None] * _each(rng, 0.3, 1, label)

    axes = [
        force * np.sin(phase) + 0.5 * lean + 0.2 * np.abs(sense) * push,
        force * 0.4 * np.sin(phase / 2),
        1 + force * np.sin(2 * phase) * 0.6 + 0.35 * sense * swing,
        1.2 * lean + force * np.cos(phase / 2) + sense * push * 0.3,
        force * 0.8 * np.sin(phase) + 0.9 * np.abs(sense) * swing,
        force * 0.5 * np.cos(phase),
    ]
    noise = rng.normal(0, 1, (len(label), _STEPS, 6)) * _each(rng, 0.06, 0.2, label)[..., None]
    return (np.stack(axes, axis=2) + noise).astype(np.float32)


def vibration(rng: Generator, label: Labels) -> Array:
    """Return log spectra ``(n, 128)``; class 1 has a worn bearing or gear."""
    time = np.arange(_WINDOW) / _WINDOW
    speed = _each(rng, 9, 14, label)
    load = _each(rng, 0.5, 1, label)
    teeth = speed * 7
    wave = load * np.sin(2 * np.pi * (speed * time + _each(rng, 0, 1, label)))
    for harmonic, high in ((2, 0.4), (3, 0.2)):
        wave += high * np.sin(2 * np.pi * (harmonic * speed * time + _each(rng, 0, 1, label)))
    turn = 2 * np.pi * (teeth * time + _each(rng, 0, 1, label))
    wave += 0.5 * load * np.sin(turn)
    faulty = (label == 1)[:, None]
    gear = faulty & (rng.random((len(label), 1)) < 0.5)
    depth = _each(rng, 0.15, 1.0, label)
    wave += gear * depth * 0.5 * load * np.sin(turn) * np.sin(2 * np.pi * speed * time)
    ringing = np.sin(2 * np.pi * 4.3 * speed * time).clip(0, None) ** 6
    carrier = np.sin(2 * np.pi * (_each(rng, 150, 230, label) * time))
    wave += (faulty & ~gear) * depth * ringing * carrier
    wave += rng.normal(0, 0.12, wave.shape)
    power = np.abs(np.fft.rfft(wave * np.hanning(_WINDOW), axis=1)[:, 1 : 2 * _SPECTRUM + 1])
    pooled = (power**2).reshape(len(label), _SPECTRUM, 2).sum(axis=2)
    spectrum: Array = np.log1p(pooled).astype(np.float32)
    return spectrum
