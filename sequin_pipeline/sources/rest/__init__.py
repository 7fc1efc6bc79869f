"""This room reads REST APIs by declaration: which lists are asked for, page by page, and what of them is new.

Paginators and authentication are dlt's; requests are sent by the room http. What becomes of the objects is decided in the room keyed.
"""
