"""Recorded histories against the code as it is now, before it is deployed.

Rule of this layer: above the client, below the commands.  Given files it reaches no store.  This
module imports nothing, so that pytest may load the plugin in every project at no price.
"""
