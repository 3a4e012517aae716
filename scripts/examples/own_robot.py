"""A robot of your own: its MJCF, a `RobotModel` with the names in it, and every task takes it.

python scripts/examples/own_robot.py
robofuse train Grasp --robot gantry --import scripts/examples/own_robot.py
"""

import torch

from robofuse.envs import RobotModel, World, register_robot

# A gantry: three slides, a turning tool, two fingers, each with a <position> servo. The site `grip` lies between the
# fingertips, its z axis out of the fingers; the boxes `left_tip` and `right_tip` enclose the pads, to feel contacts.
MJCF = """
<mujoco>
  <compiler angle="radian"/>
  <default>
    <joint armature="1"/><geom contype="2" conaffinity="1" rgba="0.9 0.6 0.1 1"/>
    <position kp="4000" dampratio="1" inheritrange="1"/>
  </default>
  <worldbody>
    <body name="bridge" pos="0.5 0 0.45" gravcomp="1">
      <joint name="x" type="slide" axis="1 0 0" range="-0.3 0.3"/><geom type="box" size="0.03 0.4 0.02" mass="3"/>
      <body name="trolley" gravcomp="1">
        <joint name="y" type="slide" axis="0 1 0" range="-0.3 0.3"/><geom type="box" size="0.05 0.05 0.03" mass="1"/>
        <body name="mast" gravcomp="1">
          <joint name="z" type="slide" axis="0 0 1" range="-0.35 0.1"/><geom size="0.02" mass="0.5"/>
          <body name="tool" pos="0 0 -0.1" quat="0 1 0 0" gravcomp="1">
            <joint name="turn" range="-3 3" armature="0.1"/><geom type="box" size="0.03 0.1 0.02" mass="0.2"/>
            <site name="wrist"/><site name="grip" pos="0 0 0.08"/>
            <body pos="0 0 0.05" gravcomp="1">
              <joint name="left_finger" type="slide" axis="0 1 0" range="0 0.04" armature="0.1"/>
              <geom type="box" size="0.01 0.004 0.04" pos="0 0.004 0" mass="0.05"/>
              <site name="left_tip" type="box" size="0.0105 0.0045 0.041" pos="0 0.004 0"/>
            </body>
            <body pos="0 0 0.05" quat="0 0 0 1" gravcomp="1">
              <joint name="right_finger" type="slide" axis="0 1 0" range="0 0.04" armature="0.1"/>
              <geom type="box" size="0.01 0.004 0.04" pos="0 0.004 0" mass="0.05"/>
              <site name="right_tip" type="box" size="0.0105 0.0045 0.041" pos="0 0.004 0"/>
            </body>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position joint="x"/><position joint="y"/><position joint="z"/><position joint="turn" kp="300"/>
    <position joint="left_finger" kp="1500"/><position joint="right_finger" kp="1500"/>
  </actuator>
</mujoco>"""
GANTRY = RobotModel(name="gantry", mjcf=MJCF, joints=("x", "y", "z", "turn"), home=(0.0, 0.0, 0.0, 0.0))
register_robot(GANTRY, "four axes over the table, slow and strong")

if __name__ == "__main__":
    for task in ("Reach", "Grasp"):
        world = World(task, 8, robot="gantry", sensors=("proprio", "force"), auto_reset=False)
        world.reset()
        won = torch.stack([world.step(world.expert()).success for _ in range(world.max_steps)]).any(dim=0)
        print(f"{task}: the scripted expert solves {int(won.sum())} of 8 scenes with the {world.robot.model.name}")
    print("proprio:", *world.robot.proprio_names)
