"""Import and export of files of other programs; `helip convert` runs the modules of this room.

Imported files are untrusted: no pickle is loaded, files that may be larger than memory are streamed, and pairs are
matched by key, url or caption.
"""
