"""How close two assets are: distances, normals, materials, lost parts."""
