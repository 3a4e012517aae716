"""U2A, unified unimodal adaptation: one pretrained transformer per sensor, which also estimates the other sensors.

Start at `transformer.py`; `estimates.py` puts the estimates in the places of missing sensors, `lora.py` adapts frozen
encoders, `autoencoder.py` pretrains them, and `alignment.py` is the loss that makes estimates what they stand for.
"""
