"""Embedded benchmarks: tables of networks that were really trained, and their makers."""
