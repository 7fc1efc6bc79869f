"""This room turns an API's own objects into records: what they are keyed by, in which order they are read, what the cursor remembers.

It knows neither HTTP nor processes: a feed delivers the objects. Sources of REST APIs and of connectors are feeds of this room.
"""
