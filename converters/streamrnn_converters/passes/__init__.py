"""The passes of an import, in order: fold, declutter, streamify, align, fuse."""
