"""Serving with Seldon Core 1: one SeldonDeployment per WinePipeline."""
