"""Ways in and out: files of other programs, read and written.

The room imports artifacts, the readers of data, and errors; the pipeline imports it, and `helip convert`
joins it with the names of datasets. Whatever is read here was written by somebody else: no pickle is loaded, a file is
streamed where it may be larger than memory, and pairs are matched by what they are (key, url, caption).
"""
