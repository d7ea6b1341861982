"""Between a stamp's angles, anticlockwise from +x, and position angles, east of north."""

import numpy as np


def north_angle(ra_deg, dec_deg, brick_ra_deg, brick_dec_deg):
    """Direction of north, anticlockwise from +x, in a tangent-plane brick (east left): pi/2 at its centre, radians.

    >>> round(float(np.degrees(north_angle(10.0, 60.0, 10.0, 60.0))), 9)
    90.0
    """
    dec, dec0 = np.radians(dec_deg), np.radians(brick_dec_deg)
    turn = np.radians(np.subtract(ra_deg, brick_ra_deg))
    along = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(turn)
    d_along = np.sin(dec0) * np.cos(dec) - np.cos(dec0) * np.sin(dec) * np.cos(turn)
    xi = np.cos(dec) * np.sin(turn)
    eta = np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(turn)
    d_xi = -np.sin(dec) * np.sin(turn) * along - xi * d_along
    d_eta = (np.cos(dec0) * np.cos(dec) + np.sin(dec0) * np.sin(dec) * np.cos(turn)) * along - eta * d_along
    return np.arctan2(d_eta, -d_xi)


def position_angle_deg(phi_rad, north_rad):
    """Position angle, east of north in [0, 180), of an axis at the stamp angle ``phi_rad`` (east is anticlockwise)."""
    return np.degrees(np.subtract(phi_rad, north_rad)) % 180.0
