"""One icon -> one PNG of 32x32 pixels on white, grey where it has no colour."""

import io

from PIL import Image

from experiments.icons.choose import Icon

SIZE = 32


def svg(icon: Icon) -> str:
    """A complete SVG file: `currentColor` becomes black, and an oblong box is centred."""
    box = f"{icon.left:g} {icon.top:g} {icon.width:g} {icon.height:g}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}"'
    return f'{head} width="{SIZE}" height="{SIZE}">{icon.body.replace("currentColor", "#000")}</svg>'


def render(icon: Icon) -> bytes | None:
    """PNG bytes; None if resvg cannot draw the icon or the picture is blank."""
    import resvg_py  # the extra `dev`: only building the data needs it

    try:
        drawn = resvg_py.svg_to_bytes(svg_string=svg(icon), background="#ffffff", skip_system_fonts=True)
    except ValueError:
        return None
    picture = Image.open(io.BytesIO(drawn)).convert("RGB")
    channels = picture.split()
    if all(channel.getextrema() == (255, 255) for channel in channels):
        return None
    if len({channel.tobytes() for channel in channels}) == 1:
        picture = channels[0]
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
