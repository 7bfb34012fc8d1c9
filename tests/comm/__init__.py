"""Tests of communicators: a package, which precedes the package ``comm`` that ipykernel installs."""
