"""A simulated survey with the files, names, headers, compression and noise of DR10 south.

>>> spec = SurveySpec(bricks=1)
>>> [brick.name for brick in brick_list(spec)]
['1501p022']

Make each brick, in any order and process, with ``make_brick``; then ``finish`` once.
"""

from lib.survey.synthetic.make import finish, make_brick
from lib.survey.synthetic.spec import SurveySpec, brick_list

__all__ = ["SurveySpec", "brick_list", "finish", "make_brick"]
